"""Where sound comes from: files, pipes and microphones, all giving mono float32 blocks."""
