"""Who watches a training run: progress, lines of JSON, dashboards, a guard, and questions to pictures kept back."""
