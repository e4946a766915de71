"""Questions about the product, each with words of the passage in `docs/` that answers it.

They are asked as somebody would who has not read the passage. The share of those whose passage is among the
first five is recall@5, which `benchmarks/memory.py` prints and a test holds.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from kasal_jupyter.memory.parse import passages_of

DOCS = Path(__file__).parents[2] / "docs"

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What happens when a tool fails in the middle of a task?", "tells the agent why, in a sentence"),
    ("Can agents reach hosts in our private network?", "`KasalApp.allowed_hosts` names hosts and networks"),
    ("Does the web search need an API key?", "`web_search` needs no key"),
    ("Use Tavily for searching instead of the public engines", "`TAVILY_API_KEY` | tavily"),
    ("How do I query a CSV file with SQL?", "`SELECT * FROM 'sales.csv'`"),
    ("Is the Python tool safe to switch on?", "It is a limit, and no jail"),
    ("How long does a run wait until a person answers its question?", "an `input_request` into the run's"),
    ("What may somebody do who only has the sandbox token?", "is a stranger to the machine"),
    ("Register an MCP server that is a program on this machine", "may register one; it is not"),
    ("How are the names of MCP tools made?", "lower-case letters, digits and underscores"),
    ("What becomes of a call when the session to an MCP server breaks?", "may or may not have been done"),
    ("Why is the cost of my run null?", "`cost` is null as soon as one call's is"),
    ("Draw a chart of what I have spent", "draws cost and tokens by day, model and crew"),
    ("Stop a run that gets too expensive", "`max_cost` (US dollars)"),
    ("Download all files that an execution has written in one archive", '`format` "zip"'),
    ("How often is a webhook delivery repeated?", "five times in a minute and a half, where"),
    ("Verify the signature of a webhook", "as [Standard Webhooks]"),
    ("Change the secret that signs webhooks", "for 24 hours the one before signs as well"),
    ("Which name do I write for a model on Azure?", "`azure/my-deployment`"),
    ("My crew was written for gpt-4, which no longer exists", "by the successor that"),
    ("The model thinks for ten minutes and the call times out", "A model has 300 seconds for an answer"),
    ("The provider counted tokens strangely; what is the price then?", "whole numbers from 0 to 10^12"),
    ("The model's answer was cut off because max_tokens was too small", "**An answer that is not whole**"),
    ("Where do I see the model's reasoning?", "**What a model thinks aloud**"),
    ("vLLM says that it takes no tools", "**A server that takes no tools**"),
    ("Where are provider keys stored, and who can read them?", "Keys are encrypted at rest"),
    ("Which environment variables does a run's process see?", "`KasalApp.passed_environment` names"),
    ("Our server reaches the internet through a proxy", "`socks5://`"),
    ("Find out whether an API key works", "Asks a provider something small, once"),
    ("Are images in an answer loaded in the notebook?", "an image is a link to it"),
    ("I closed the browser tab while a run was going on", "`%kasal status JOB` picks the run up"),
    ("Repeat a run with the same inputs", "`%kasal run --again JOB` runs the crew"),
    ("Show only the steps that failed", "`--failed`, `--agent`"),
    ("Go back to an older version of a crew", "brings version 3 back, as a new version"),
    ("Overwrite a crew which somebody else has edited", "`--force` writes over it"),
    ("Two crews have the same name; which one is meant?", "Names need not be unique"),
    ("Import a CrewAI project from a zip archive", "CrewAI's agents and tasks in one file"),
    ("Is code in an imported project executed?", "**Nothing is executed.**"),
    ("What is lost when I export a crew to CrewAI?", "its README lists what was left out"),
    ("Make a crew from a description in plain words", "A model is asked for a crew's YAML"),
    ("How large may the body of a request be?", "**Requests**: a body | 2 MiB"),
    ("How many runs go on at the same time?", "**Executions**: running | 10"),
    ("What happens after too many wrong passwords?", "wrong passwords of one account from one address"),
    ("How much space does each user have for crews and documents?", "`max_stored_bytes`"),
    ("How many passages of knowledge can a crew be given?", "10,000 passages a crew; 1,000,000 cells"),
    ("What does a crew remember after a run has ended?", "`short_term`: what happened"),
    (
        "Can another embedding model be used for recall?",
        "An embedder that does is set by `KasalApp.embedder`",
    ),
    ("Make the crew forget its short-term memories", "Has a crew forget: `short_term`"),
    ("Give a crew a PDF to know", "Gives a crew a text, or a file's content in base64"),
    ("Read a very long result completely", "`%kasal result`, `run.output` and"),
)


LANGUAGES: tuple[tuple[str, str], ...] = (
    ("会议推迟到下周三举行?", "下周三的会议改到十五楼的大会议室"),
    ("退货", "客户可以在三十天内免费退货"),
    ("谁批准超过五百元的退款", "超过五百元的退款由王经理批准"),
    ("太阳能组件价格为什么下降", "由于硅料过剩太阳能组件的价格大幅下降"),
    ("仓库在哪里", "公司的仓库位于苏州工业园区"),
    ("東京の倉庫", "部品は東京都江東区の倉庫に保管されている"),
    ("返品の期限はいつまでですか", "返品は購入から三十日以内に受け付けます"),
    ("請求書の宛先", "請求書は経理部の田中宛てに送ってください"),
    ("サーバーの再起動は誰に頼む?", "夜間のサーバー再起動は運用チームの鈴木に依頼する"),
    ("환불은 누가 승인합니까?", "오십만 원이 넘는 환불은 김 부장이 승인한다"),
    ("창고 주소", "부품 창고는 인천 남동구에 있다"),
    ("회의록을 언제까지 보내야 하나요", "회의록은 금요일까지 보내 주세요"),
    ("คืนสินค้าได้กี่วัน", "ลูกค้าสามารถคืนสินค้าได้ภายในสามสิบวัน"),
    ("คลังสินค้าอยู่ที่ไหน", "คลังสินค้าหลักอยู่ที่จังหวัดชลบุรี"),
    ("Wer genehmigt Rückerstattungen?", "Jede Rückerstattung über 500 Euro genehmigt Frau Okafor"),
    ("Wo stehen die Ladesäulen?", "Die Ladesäule am Hafen ist seit Mai außer Betrieb"),
    ("Welche Steuer fällt an?", "Rechnungen nach Österreich enthalten zehn Prozent Umsatzsteuer"),
    (
        "Wie lang ist die Lieferzeit für Ersatzteile?",
        "Ein Ersatzteil wird innerhalb von acht Tagen geliefert",
    ),
    ("Quels fournisseurs livrent le mardi ?", "Le fournisseur lyonnais livre chaque mardi matin"),
    ("Comment fait-on le remboursement des clients ?", "Un client est remboursé sous trente jours"),
    (
        "¿A qué hora prefieren entregas los clientes?",
        "El cliente de Madrid prefiere la entrega por la mañana",
    ),
    ("¿Quién aprueba los reembolsos?", "Todo reembolso superior a 500 euros lo aprueba la señora Ruiz"),
    ("Quali fornitori consegnano il martedì?", "Il fornitore di Torino consegna ogni martedì"),
    ("Кто утверждает возвраты денег?", "Возврат денег свыше пятисот евро утверждает Иванова"),
    ("Где находятся склады?", "Главный склад находится в Казани"),
    ("أين يقع المستودع؟", "المستودع الرئيسي يقع في مدينة جدة"),
)
"""Questions in other languages, each with the text that answers it; each is asked among all."""


def passages() -> list[tuple[str, str]]:
    """Give the documentation in passages, as it would be given to a crew: the file's name and the text."""
    return [
        (path.name, passage)
        for path in sorted(DOCS.glob("*.md"))
        for passage in passages_of(path.read_text("utf-8"), headings=True)
    ]


def plain(text: str) -> str:
    """Give a text on one line: phrases may be broken in the documentation."""
    return " ".join(text.split())


def missed(find: Callable[[str], Iterable[str]]) -> list[str]:
    """Ask every question, and give those whose passage is not among the texts found."""
    return [
        question
        for question, phrase in QUESTIONS
        if not any(phrase in plain(text) for text in list(find(question))[:5])
    ]
