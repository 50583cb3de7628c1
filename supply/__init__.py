"""Lock files, known vulnerabilities, and bills of materials."""
