"""Paraphrases of the tasks' instructions, so that a model does not depend on one wording.

They were written for this project. Training uses four paraphrases for each task. A model is never trained on the
paraphrases in `HELD_OUT`, which show how much worse the model answers if the wording is new.
"""

from __future__ import annotations

from collections.abc import Mapping

PARAPHRASES: Mapping[str, tuple[str, ...]] = {
    "attribute_value_extraction": (
        "Read the product's information and find a value for every target attribute. Give each value with the field "
        "that it was found in.",
        "For each of the target attributes, copy its value out of the product data and name the source of the value. "
        "Write None where there is none.",
        "List the values of the asked attributes as they stand in the product's fields, with the field as the source.",
        "Fill in the target attributes from the product's own text. Output attribute, value and source.",
    ),
    "product_relation_prediction": (
        "Here are the titles of two products. Say how customers relate them, by one of the options.",
        "Decide which of the listed relations holds between product 1 and product 2. Answer with its letter.",
        "Two product titles are given. Are they bought together, viewed together, or alike? Pick an option.",
        "Choose the option that says best how the two products belong together.",
    ),
    "product_matching": (
        "Do these two records describe one and the same product? Answer yes or no.",
        "Compare the title, description, manufacturer and price of both records and decide whether they are the same "
        "item. Say only yes or no.",
        "Two shops list a product each. Tell if it is the same product, with yes or no and nothing else.",
        "Is product 1 identical with product 2? Reply with yes or no.",
    ),
    "sentiment_analysis": (
        "How does the customer feel about the product? Choose one of the options.",
        "Read the review and pick the option that fits its tone.",
        "Rate the feeling of this review by one of the listed options.",
        "Select the sentiment that the writer of the review expresses. Use an option as it is written.",
    ),
    "sequential_recommendation": (
        "These are the products that a customer bought, oldest first. Which of the options will come next? Answer with "
        "its letter.",
        "Guess the customer's next purchase from the history. Choose one of the options.",
        "Given what was bought before, select the option that this customer will most likely buy now.",
        "Out of the listed items, name the one that continues the purchase history best.",
    ),
    "multiclass_product_classification": (
        "How well does the product fit what was searched for? Choose one of the options.",
        "Judge the product title against the query and answer with an option.",
        "Decide to what degree the product answers the customer's query. Use one of the options.",
        "Pick the option that describes the relation of the product to the query.",
    ),
    "product_substitute_identification": (
        "Could the product stand in for what the query asks for, though it misses some of it? Answer yes or no.",
        "Is this product a substitute: not exactly what was searched for, yet of use in its place? Say yes or no.",
        "The query names what a customer wants. Tell with yes or no whether the product only partly fits and could "
        "replace it.",
        "Decide if the product is merely a functional substitute for the query. Reply yes or no.",
    ),
    "query_product_ranking": (
        "Sort the products by how well they fit the query, best first. Write only their letters.",
        "Order the listed products from the most to the least relevant for the query and output the letters.",
        "Which products fit the query best? Give all letters, the best one at the front.",
        "Rank every product in the list against the customer's query. Output the ranked letters alone.",
    ),
    "answerability_prediction": (
        "Can the question be answered from the document? Answer yes or no.",
        "Does the review hold the answer to the question? Say yes or no.",
        "Decide whether the document tells enough to answer the question. Reply with yes or no.",
        "Tell with yes or no if somebody who has read only the document could answer.",
    ),
    "answer_generation": (
        "Answer the question with what the document says.",
        "Use the document to answer the customer's question.",
        "Find the answer to the question in the document and write it down.",
        "Reply to the question from the information in the given text.",
    ),
}

HELD_OUT: Mapping[str, str] = {
    "product_matching": "Check whether both entries refer to the very same article. Your answer is yes or no.",
    "sentiment_analysis": "What is the mood of the following customer opinion? Reply with one of the given options.",
}
