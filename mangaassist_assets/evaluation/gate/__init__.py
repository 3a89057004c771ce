"""The gate: may this challenger replace the champion?"""
