"""What a person sees in the terminal. Draws what it is handed; calls nothing of the workflows."""
