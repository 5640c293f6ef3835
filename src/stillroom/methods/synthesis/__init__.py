"""Methods that make data: pipelines from seeds or documents to what a student is trained on."""
