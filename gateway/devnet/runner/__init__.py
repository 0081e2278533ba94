"""An AI worker as orchestrators have them: takes a job, changes the picture, publishes the result."""
