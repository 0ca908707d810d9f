//! The obvious way to cook a recipe.
