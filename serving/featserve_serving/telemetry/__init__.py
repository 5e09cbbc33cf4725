"""What is known about each call, and its record in log, metrics and trace. It knows neither models nor protocols."""
