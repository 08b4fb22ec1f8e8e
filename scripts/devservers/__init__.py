"""Development servers on loopback: what scripts/dev-up and the tests start.

Everything lives in one directory and is reached over free high ports, so that
any number of them stand side by side and no system service is touched.
"""
