"""Recording only: metrics, trace context, access log. Exporters live at the rim."""
