"""Pictures from untrusted addresses."""
