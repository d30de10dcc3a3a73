"""Prompts for when the question does not matter: to compare, and to keep a server busy."""

PROMPTS = (
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Explain how rainbows form, step by step, to a ten-year-old child.",
    "What were the main causes of the French Revolution? Discuss three of them.",
    "Describe a walk through a forest in autumn, using all five senses.",
    "Give me a recipe for vegetable soup with the quantities and the steps.",
    "Compare trains and aeroplanes for a journey of five hundred kilometres.",
    "Write a Python function that counts the words in a text, and explain it.",
    "Tell me how to prepare for a job interview at a small company.",
)
BACKGROUND = (
    "List ten uncommon animals and say one thing about each.",
    "Write a poem about the sea and the people who live by it.",
    "Why is the sky blue, and why is it red in the evening?",
    "Summarise the life of Marie Curie.",
    "Invent a board game about gardening and write down its rules.",
    "How does a bicycle stay upright while it moves?",
    "Write a polite letter that complains about a late delivery.",
    "Explain what a prime number is and why there are infinitely many.",
)
