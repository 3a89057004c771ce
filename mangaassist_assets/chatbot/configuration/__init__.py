"""The chatbot's AppConfig documents: typed, reviewed, with experiments."""
