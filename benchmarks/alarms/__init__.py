"""What an operator lives through: false alarms and missed voices on long sound."""
