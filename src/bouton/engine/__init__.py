"""The engine: plans a workflow, runs its steps block by block, keeps a ledger of what is done, verifies and repairs."""

from bouton.engine.plan import Plan, make_plan
from bouton.engine.run import RunSummary, run_workflow
from bouton.engine.verify import Damage, VerifyReport, repair_run, verify_run

__all__ = ["Damage", "Plan", "RunSummary", "VerifyReport", "make_plan", "repair_run", "run_workflow", "verify_run"]
