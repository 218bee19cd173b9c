"""What runs the stages on Kubernetes: the night's launcher. It knows no stage, and no stage knows it."""
