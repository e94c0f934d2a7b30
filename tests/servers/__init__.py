"""Real servers for tests: started on free places of this machine, and stopped by the tests that use them."""
