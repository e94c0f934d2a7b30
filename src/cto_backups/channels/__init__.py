"""Ways to reach people: each hands one message over, or says in a sentence why it could not."""
