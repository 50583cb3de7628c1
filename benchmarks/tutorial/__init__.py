"""The pipeline as tutorials build it, to compare with: correct code, one thing at a time."""
