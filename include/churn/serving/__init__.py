"""The service in the image: the model behind MLflow's protocol, with rows checked against the contract.

Imports only the contract. Environment variables set its folder, host and port.
"""

FOLDER_VARIABLE, HOST_VARIABLE, PORT_VARIABLE = "SERVED_FOLDER", "SERVED_HOST", "SERVED_PORT"
CONTRACT_FILE, MODEL_FOLDER = "contract.json", "model"
DOES_NOT_LOAD = 42
"""Exit status of a service whose model does not load; any other status has another cause."""
