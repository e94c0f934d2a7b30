"""Key services of clouds: each wraps and unwraps the repositories' secret. Implements `core.keys.KeyService`."""
