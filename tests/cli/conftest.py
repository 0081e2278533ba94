from tests.payments.conftest import postgresql, where

__all__ = ["postgresql", "where"]
