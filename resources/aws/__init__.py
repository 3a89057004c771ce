"""AppConfig, SageMaker and Bedrock."""
