"""What is wrong with a deployment, from stored facts and live questions, as findings without a terminal."""
