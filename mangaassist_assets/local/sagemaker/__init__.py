"""SageMaker and SageMaker Runtime on one machine: the API subset this project uses, on the wire."""
