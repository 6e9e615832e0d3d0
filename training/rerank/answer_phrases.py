"""What models write around an order: the phrases that `training.rerank.answer_grammar` puts together.

`{a}` and `{b}` stand for labels shown, `{chain}` for an order that is not the answer, `{n}` for the number of passages
shown and `{k}` for the number that the answer names.
"""

from __future__ import annotations

LEADS = (
    "Here is the ranking:", "Final ranking:", "Ranking:", "**Ranking:**", "**Final Ranking**:", "Sure!",
    "Sure! Here is the ranking:", "Certainly! Here are the {n} passages ranked by relevance:", "Answer:", "Order:",
    "The order is:", "Ranked passages:", "Ranked list:", "Result:", "Output:", "My ranking is as follows:",
    "Based on the relevance to the question, the order is:", "I would rank the passages as follows:",
    "From most to least relevant:", "Most relevant to least relevant:", "In order of relevance:", "Best to worst:",
    "Sorted by relevance (descending):", "The final ranking is", "So the final order is:",
    "Therefore, the ranking is:", "## Ranking", "### Final Answer", "**Final Answer**", "# Passage Ranking", "Rank:",
    "Okay.", "Of course.", "After reading all {n} passages, I rank them like this:",
    "Here is the ranked order of the {n} passages:",
    "Considering 3 criteria (coverage, precision, date), the ranking is:", "The passages in descending order:",
    "I compared the {n} passages with the question. The ranking:", "Final answer:", "FINAL RANKING:", "The ranking:",
    "Relevance ranking:", "To answer the question, passages should be ordered as follows:", "Ranking (best first):",
    "Rangfolge:", "Die Reihenfolge nach Relevanz:", "Le classement est le suivant :", "Classement final :",
    "Orden de relevancia:", "La clasificaci\u00f3n final es:", "Classifica finale:", "Ordem final:",
    "\u6392\u5e8f\uff1a", "\u6700\u7ec8\u6392\u5e8f\uff1a", "\u6309\u76f8\u5173\u6027\u6392\u5e8f\uff1a",
    "\u6392\u5e8f\u7ed3\u679c\u5982\u4e0b\uff1a", "\u6700\u7d42\u30e9\u30f3\u30ad\u30f3\u30b0\uff1a",
    "\u95a2\u9023\u6027\u306e\u9ad8\u3044\u9806\uff1a", "\uc21c\uc704:", "\ucd5c\uc885 \uc21c\uc704:",
    "\u0420\u0430\u043d\u0436\u0438\u0440\u043e\u0432\u0430\u043d\u0438\u0435:",
    "\u0418\u0442\u043e\u0433\u043e\u0432\u044b\u0439 \u043f\u043e\u0440\u044f\u0434\u043e\u043a:",
    "\u0627\u0644\u062a\u0631\u062a\u064a\u0628 \u0627\u0644\u0646\u0647\u0627\u0626\u064a:",
    "\u0905\u0902\u0924\u093f\u092e \u0915\u094d\u0930\u092e:", "Ranking (1 = most relevant):",
)  # fmt: skip
CLOSINGS = (
    "I hope this helps!", "Let me know if you need anything else.", "These rankings are based on relevance.",
    "Passage {a} is last because it only names the year 1969.", "Note that [{a}] and [{b}] are close.",
    "Passage {a} directly answers the question, while passage {b} is only related.",
    "The first {k} are the relevant ones.", "All {n} passages were considered.", "(by relevance)",
    "Explanation: passage {a} gives the definition; passage {b} gives 2 examples.",
    "**Explanation:** The top passage answers the question directly. [{a}] is off topic.",
    "Note: passage {a} mentions 3 dates but none of them matters.", "Confidence: 85%", "Confidence: high",
    "This order reflects how well each passage answers the question.", "---", "Done.", "END",
    "Would you like me to explain why passage {a} comes before passage {b}?",
    "Reasoning: [{a}] names the drug, [{b}] does not.", "Passages {a} and {b} could be swapped.",
    "Please note that I ranked {n} passages on a scale from 1 to 5.",
    "\u5e0c\u671b\u8fd9\u5bf9\u60a8\u6709\u5e2e\u52a9\uff01",
    "\u8bf4\u660e\uff1a[{a}] \u76f4\u63a5\u56de\u7b54\u4e86\u95ee\u9898\u3002", "Ich hoffe, das hilft.",
    "Hinweis: Absatz {a} nennt nur das Jahr 1898.", "J'esp\u00e8re que cela vous aide.", "Espero que esto ayude.",
    "\u041d\u0430\u0434\u0435\u044e\u0441\u044c, \u044d\u0442\u043e \u043f\u043e\u043c\u043e\u0436\u0435\u0442.",
    "The passage marked {a} was the hardest to place.", "There were 2 passages I was unsure about.",
    "If you only need one passage, take the first.", "Thank you for the {n} passages.",
)  # fmt: skip
SEPARATORS = (
    " > ", ">", " >", "> ", " >\n", "\n> ", " \uff1e ", "\uff1e", " \u227b ", " \u2192 ", " -> ", " >> ", " \u00bb ",
    " &gt; ", " \\succ ", " => ", " \u21d2 ", " > > ", "  >  ", " \u203a ",
)  # fmt: skip
LOOSE_SEPARATORS = (
    ", ", ",", " , ", "; ", "\uff0c", "\u3001", "\n", ",\n", " then ", ", then ", " followed by ", ", followed by ",
)  # fmt: skip
NOUNS = (
    "Passage ", "passage ", "Document ", "Doc ", "doc", "ID ", "Passage #", "Text ", "Candidate ", "Result ", "Item ",
    "P", "D", "\u6bb5\u843d", "\u6587\u6863", "Absatz ", "Pasaje ", "\u041f\u0430\u0441\u0441\u0430\u0436 ",
    "Dokument ",
)  # fmt: skip
PLACES = (  # {p} is the place, {o} the place with its English ending
    "{p}. ", "{p}) ", "({p}) ", "#{p}: ", "#{p} ", "Rank {p}: ", "Rank {p} - ", "{o}: ", "**{p}.** ", "**{p}**. ",
    "{p}: ", "{p} - ", "Place {p}: ", "\u7b2c{p}\u540d\uff1a", "\u7b2c{p}\uff1a", "{p}\u4f4d\uff1a", "{p}\u3001",
    "Top {p}: ", "Nr. {p}: ", "**Rank {p}:** ", "{o} place: ", "\u2116 {p}: ", "No. {p}: ",
)  # fmt: skip
BULLETS = ("- ", "* ", "+ ", "\u2022 ", "  - ", "\u2013 ", "> ", "-> ", "\u00b7 ")
COPIED = (
    "Radium was found in 1898 by Marie and Pierre Curie.", "The Eiffel Tower is 330 metres (1,083 ft) tall.",
    "Symptoms last 7 to 10 days; 3 in 4 people recover.", "Python 3.11 was released on 24 October 2022.",
    "See chapter 2, section 4.1 for the 5 rules.", "The temperature was > 30 degrees for 12 days.",
    "He scored 3 > 2 in the final.", "Call 1-800-555-0199 for help.", "In 2024, 15 of 20 schools took part (75%).",
    "Water boils at 100 degrees Celsius.", "An average adult needs 8 hours of sleep.", "It costs $19.99 a month.",
    "Founded in 1636, it is the oldest of the 8 colleges.", "The answer, given on page 12, is yes.",
)  # fmt: skip
REASONS = (  # from the best to the worst
    "directly answers the question", "most relevant", "gives the definition", "explains the cause",
    "covers 2 of the 3 points", "partially relevant", "dates from 1998", "names the author but not the year 1871",
    "mentions the topic in passing", "background only", "is off topic", "not relevant at all",
)  # fmt: skip
MUSINGS = (
    "Okay, the user wants me to rank {n} passages.", "Passage [{a}] looks relevant.",
    "[{a}] is about something else.", "Maybe [{a}] > [{b}]?", "So {a} > {b}, I think.",
    "Let me check passage {a} again.", "{chain}", "So: {chain}", "Wait, no, [{b}] names the year 1898.",
    "First draft: {chain}", "Hmm, {a} and {b} are tied.", "The format is [1] > [2].", "Final answer: {chain}",
    "1. [{a}] fits\n2. [{b}] does not", "I need 3 criteria.", "Passage {a} is better than passage {b}.",
    '{{"ranking": ["{a}", "{b}"]}}', "\u6bb5\u843d{a}\u6700\u76f8\u5173\u3002",
)  # fmt: skip
THOUGHTS = (
    "<think>{}</think>", "<think>\n{}\n</think>\n\n", "<thinking>{}</thinking>\n", "<Thinking>\n{}\n</Thinking>\n",
    "<reasoning>{}</reasoning>\n\n", "<thought>{}</thought>", "[THINK]{}[/THINK]", "<seed:think>{}</seed:think>",
    "<|begin_of_thought|>{}<|end_of_thought|>\n\n", "{}\n</think>\n\n", "<|START_THINKING|>{}<|END_THINKING|>",
    "\u25c1think\u25b7{}\u25c1/think\u25b7", "```thinking\n{}\n```\n", "<analysis>{}</analysis>\n",
    "<scratchpad>\n{}\n</scratchpad>\n",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel|>analysis<|message|>{}<|end|><|channel|>commentary<|message|>ok<|end|><|channel|>final<|message|>",
    "<think>a</think><think>{}</think>\n", "<think><think>{}</think></think>", "<think>{}<think>more</think></think>",
    "<think>{}</think>\n<think>\n\n</think>\n", "<thinking><thought>{}</thought></thinking>",
    "<unused94>thought\n{}<unused95>", "<think time=5>{}</think>", "&lt;think&gt;{}&lt;/think&gt;\n",
    "<details><summary>Thinking</summary>\n{}\n</details>\n\n", "<reflection>{}</reflection>\n",
    "<mm:think>{}</mm:think>\n", "<|thinking|>{}<|/thinking|>", "<think>{}\n</THINK>\n",
    "<inner_monologue>{}</inner_monologue>\n", "<chain_of_thought>{}</chain_of_thought>\n",
)  # fmt: skip
SPOKEN_THOUGHTS = (  # thought that no tag sets apart
    "Reasoning: {}\n\nFinal answer: ", "### Analysis\n\n{}\n\n### Final ranking\n\n",
    "**Thought:** {}\n\n**Answer:** ", "Thought: {}\nFinal Answer: ",
    "Let me think step by step. {}\n\nFinal ranking: ", "Analysis: {}\n\nRanking: ",
    "## Thinking\n{}\n\n## Ranking\n", "Step 1: read. {}\nStep 2: compare.\n\nTherefore, the final ranking is: ",
)  # fmt: skip
WRAPPERS = (
    "**{}**", "`{}`", "```\n{}\n```", "```text\n{}\n```", "<answer>{}</answer>", "<answer>\n{}\n</answer>",
    "<ranking>{}</ranking>", "\\boxed{{{}}}", "> {}", '"{}"', "<final_answer>{}</final_answer>",
    "<result>{}</result>", "*{}*", "$${}$$", "<output>\n{}\n</output>", "___\n{}\n___", "~~~\n{}\n~~~", "<p>{}</p>",
    "__{}__", "({})",
)  # fmt: skip
BLOCK_WRAPPERS = (
    "```\n{}\n```", "```markdown\n{}\n```", "<answer>\n{}\n</answer>", "<ranking>\n{}\n</ranking>", "~~~\n{}\n~~~",
    "<final_answer>\n{}\n</final_answer>", "<output>{}</output>",
)  # fmt: skip
ENDS = (
    "", "", "", "\n", "  ", ".", "<|im_end|>", "</s>", "<|eot_id|>", "<|end|>", "<|return|>", "\n\n\n",
    "<|endoftext|>", "<end_of_turn>", "\u200b", "[/INST]", "\n<|im_end|>\n",
)  # fmt: skip
STARTS = (
    "", "", "", "\n", " ", "\ufeff", "assistant: ", "<|assistant|>", "Assistant: ", "\u200b", "\n\n", "\u2705 ",
    "<|start_header_id|>assistant<|end_header_id|>\n\n", "[ANSWER] ", "A: ",
)  # fmt: skip
DRAFTS = (  # what stands before an order that is corrected
    "", "Initial ranking: ", "First pass: ", "Draft: ", "My first guess: ", "Ranking: ", "Preliminary order:\n",
)  # fmt: skip
CORRECTIONS = (
    "\n\nWait, passage {a} is more relevant. Final answer: ", "\n\nCorrection: ",
    "\nActually, that is wrong. Revised ranking: ", "\n\nHmm, let me reconsider.\n\nFinal ranking:\n",
    "\n\nAfter checking again, the corrected order is:\n",
    "\n\nWait, I forgot something. The final ranking should be: ", "\n\nOn reflection, the final order is: ",
    "\n\nUpdated ranking: ", "\n\nFinal ranking after review: ", "\n\n**Correction:** the final ranking is\n\n",
    "\n\n\u7b49\u7b49\uff0c\u91cd\u65b0\u8003\u8651\u3002\u6700\u7ec8\u6392\u5e8f\uff1a", "\n\nKorrektur: ",
    "\n\nSorry, I made a mistake. Final ranking: ", "\n\nOn second thought: ", "\n\nNo, better:\n",
    "\n\nWait, final answer: ",
)  # fmt: skip
AGAIN = ("\n\n", "\n\nSo, once more: ", "\n\nFinal ranking: ", "\n\nIn short: ", "\n\nAnswer: ")
WORST_FIRST = (
    "From least to most relevant:", "Worst to best:", "Least relevant first:", "In ascending order of relevance:",
    "Sorted by increasing relevance:", "Starting with the worst:",
    "\u6309\u76f8\u5173\u6027\u4ece\u4f4e\u5230\u9ad8\uff1a",
)  # fmt: skip
ORDERLESS = (  # none of these ranks anything
    "I cannot rank these passages.", "I'm sorry, but I can't help with that.",
    "None of the {n} passages is relevant.", "<think>{chain}", "[THINK]So: {chain}",
    "<think>Final answer: {chain}. But wait", "Please provide the passages.",
    "I will answer in the form [{a}] > [{b}] > [...].", "Example: {chain}", "For example, {chain}", "",
    "The passages were given as {chain}.", "I received the passages {chain}. What is the question?", "...",
    "There are {n} passages, and 3 of them are about cats.", '{{"error": "rate limit of 20 requests"}}', "null",
    "<|channel|>analysis<|message|>{chain}", "Format: {chain}", "Is it {chain}?", "Passage {a} mentions passage {b}.",
    "Step 1: read. Step 2: compare. Step 3: rank.", "The input order {chain} is wrong.", "<answer></answer>",
    "I would not rank them {chain}.", "It is not {chain}.", "2023-03-01", "[{a}]", "Both {a} and {b} are good.",
)  # fmt: skip
