"""Queues: where what is due waits for a worker; `flows.queue_port` says what each of them is to do."""
