"""gradrace: formulations race; gradients must tie."""
