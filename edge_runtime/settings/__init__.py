"""Every option of the program: what it is, where its value comes from, how it is documented."""
