"""What a request may ask for, what is refused and why, and what health means. No SGLang here."""
