"""What many would build for ``GET /v1/crews``: FastAPI, pydantic and SQLAlchemy on SQLite, with a JWT.

``benchmarks/rest.py`` runs it with uvicorn, to compare with. It answers with the same models, needs two
queries a page, and limits no rates, which would only make it slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from kasal_jupyter.schemas.crews import CrewList, CrewSummary

SECRET = os.environ.get("BENCHMARK_SECRET", "a secret that is long enough to sign with")
DATABASE = os.environ.get("BENCHMARK_DATABASE", "sqlite://")
USER = "user_benchmark"


class Base(DeclarativeBase):
    """The tables."""


class Crew(Base):
    """A crew."""

    __tablename__ = "crews"
    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[str] = mapped_column(index=True)
    updated_at: Mapped[str]
    version: Mapped[int]
    agents: Mapped[list[Agent]] = relationship(back_populates="crew")


class Agent(Base):
    """An agent of a crew."""

    __tablename__ = "agents"
    id: Mapped[str] = mapped_column(primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crews.id"), index=True)
    role: Mapped[str]
    goal: Mapped[str]
    model: Mapped[str]
    crew: Mapped[Crew] = relationship(back_populates="agents")


engine = create_engine(DATABASE)
sessions = sessionmaker(engine)
app = FastAPI()


def current_session() -> Iterator[Session]:
    """Give a session for one request."""
    with sessions() as session:
        yield session


def current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> str:
    """Check the token, and give whose it is."""
    try:
        claims = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    return str(claims["sub"])


@app.get("/v1/crews")
def list_crews(
    session: Annotated[Session, Depends(current_session)],
    user: Annotated[str, Depends(current_user)],
    page: Annotated[int, Query(ge=1)] = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 20,
) -> CrewList:
    """List the user's crews, the newest first."""
    agents = select(func.count()).where(Agent.crew_id == Crew.id).scalar_subquery()
    rows = session.execute(
        select(Crew, agents)
        .where(Crew.owner == user)
        .order_by(Crew.created_at.desc(), Crew.id)
        .offset((page - 1) * per_page)
        .limit(per_page)
    )
    crews = [
        CrewSummary(
            id=crew.id,
            name=crew.name,
            status=crew.status,
            agents_count=count,
            created_at=crew.created_at,
            updated_at=crew.updated_at,
            version=crew.version,
            owner=crew.owner,
        )
        for crew, count in rows
    ]
    total = session.scalar(select(func.count()).select_from(Crew).where(Crew.owner == user)) or 0
    return CrewList(items=crews, total=total, page=page, per_page=per_page)


def fill(crews: int) -> str:
    """Make the tables and crews of three agents, and give a token that sees them."""
    Base.metadata.create_all(engine)
    with sessions() as session:
        for number in range(crews):
            agents = [
                Agent(id=f"agent_{number:06}{part}", role="Writer", goal="Write", model="sandbox")
                for part in range(3)
            ]
            at = f"2026-11-24T12:{number // 60 % 60:02}:{number % 60:02}Z"
            name = f"Crew {number:05}"
            session.add(
                Crew(
                    id=f"crew_{number:012}",
                    owner=USER,
                    name=name,
                    status="active",
                    created_at=at,
                    updated_at=at,
                    version=1,
                    agents=agents,
                )
            )
        session.commit()
    return jwt.encode({"sub": USER, "exp": 4_000_000_000}, SECRET, algorithm="HS256")
