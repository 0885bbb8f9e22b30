"""An OpenAI-compatible server asked many questions: kept, repeated, paced and paid for."""
