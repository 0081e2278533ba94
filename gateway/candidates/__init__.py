"""What all kinds of candidates for a job share: verdicts and suspensions."""
