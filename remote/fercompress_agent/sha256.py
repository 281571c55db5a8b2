"""SHA-256 as hashlib has it, without OpenSSL: importing hashlib loads that library, 3.6 MB that would count as the agent's own memory."""

try:
    from _sha2 import sha256  # CPython 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256
    except ImportError:  # another Python, or one built without it
        from hashlib import sha256

__all__ = ["sha256"]
