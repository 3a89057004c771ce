"""The inference contract: one code for the local endpoint and the SageMaker container."""
