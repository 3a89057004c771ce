"""Knowledge documents: reading a folder of texts, pages, tables and their metadata files."""
