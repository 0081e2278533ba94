"""An AI worker for orchestrators: takes a job, changes the picture, publishes the result."""
