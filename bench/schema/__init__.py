"""`bench schema`: the form of every file and document that other programs read, as JSON Schema.

Made from the types that read and write them, never written beside them. May import any folder of
`bench` but `cli`.
"""
