"""What runs in the serving image: the model behind MLflow's protocol, held to the contract. Imports the contract alone.

Whoever starts it tells it by the environment where its folder is, and on which host and port it is to listen.
"""

FOLDER_VARIABLE, HOST_VARIABLE, PORT_VARIABLE = "SERVED_FOLDER", "SERVED_HOST", "SERVED_PORT"
CONTRACT_FILE, MODEL_FOLDER = "contract.json", "model"
DOES_NOT_LOAD = 42
"""Exit status of a service whose model does not load; any other says nothing of the model."""
