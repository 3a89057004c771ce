"""Reading a trace of any shape as a chat turn of the contract, fact by fact through the trace mapping."""
