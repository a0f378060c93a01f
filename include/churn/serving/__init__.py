"""The service in the image: serves the model over MLflow's protocol and checks rows against the contract.

It imports only the contract. Environment variables set its folder, host and port.
"""

FOLDER_VARIABLE, HOST_VARIABLE, PORT_VARIABLE = "SERVED_FOLDER", "SERVED_HOST", "SERVED_PORT"
UNCHECKED_VARIABLE = "CHURN_UNCHECKED_MODEL"
"""Environment variable of a process that compares versions: an old champion is asked about rows of a newer contract."""
CONTRACT_FILE, MODEL_FOLDER = "contract.json", "model"
OWN_CODE = "candidates"
"""Folder with the modules of the project that the model needs."""
TYPES_FILE = "trusted-types.json"
"""File with the types that the model may contain in addition to those that the service trusts."""
DOES_NOT_LOAD = 42
"""Exit status of a service whose model does not load. Any other status has another cause."""
