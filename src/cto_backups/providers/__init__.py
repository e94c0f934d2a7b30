"""How the services of cloud providers are asked, whoever asks them: logins, connections, and asking again."""
