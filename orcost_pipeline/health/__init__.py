"""Problems of a deployment as findings, from stored facts and live requests. Rendering is in `cli/`."""
