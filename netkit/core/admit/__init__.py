"""Admission: intent × request → intent, or a refusal with a hint. Pure; one file per noun.

Clock, entropy (ids) and host facts are arguments. What comes out is valid: nothing downstream
checks it again.
"""
