"""An Ethereum chain in this process, with the protocol's contracts. All calls are synchronous."""

from __future__ import annotations

from typing import Any

from eth_hash.auto import keccak

from gateway.chain.importing import contained
from gateway.devnet.chain.contracts import compiled

with contained():
    from eth_tester import EthereumTester, PyEVMBackend
    from web3 import EthereumTesterProvider, Web3

ETHER = 10**18
TICKET_VALIDITY_ROUNDS = 2
UNLOCK_ROUNDS = 7
ZERO_ADDRESS = "0x" + "00" * 20
"""Sender of calls that name none: it must be able to pay for their gas."""
GAS_MONEY = 10 * ETHER
"""Wei that each account gets to pay for gas."""


class Evm:
    """A new chain with the contracts deployed, nobody registered or funded. Each transaction is a block.

    `web3` gives direct access; `contracts` are the deployed ones by their names in the Controller, owned by
    the account `owner`. An unlock takes `unlock_rounds` rounds.
    """

    def __init__(self, unlock_rounds: int = UNLOCK_ROUNDS) -> None:
        self.tester = EthereumTester(PyEVMBackend())
        self.provider = EthereumTesterProvider(self.tester)
        self.web3 = Web3(self.provider)
        self.owner: str = self.web3.eth.accounts[0]
        self.controller = self._deploy("Controller")
        rounds = self._deploy("RoundsManager")
        self.contracts: dict[str, Any] = {
            "RoundsManager": rounds,
            "BondingManager": self._deploy("BondingManager"),
            "ServiceRegistry": self._deploy("ServiceRegistry"),
            "AIServiceRegistry": self._deploy("ServiceRegistry"),
            "TicketBroker": self._deploy(
                "TicketBroker", rounds.address, TICKET_VALIDITY_ROUNDS, unlock_rounds
            ),
        }
        for name, contract in self.contracts.items():
            self.transact(self.controller.functions.setContract(keccak(name.encode()), contract.address))
        self.give(ZERO_ADDRESS, GAS_MONEY)

    def transact(self, function: Any, **options: Any) -> Any:
        """Send a contract's function as a transaction, by default from the owner; returns the receipt.

        Raises ValueError with the contract's message where it reverts.
        """
        sent = function.transact({"from": self.owner, **options})
        return self.web3.eth.wait_for_transaction_receipt(sent)

    def register(self, address: str, uri: str, *, registry: str = "AIServiceRegistry") -> None:
        """Add an orchestrator to the active pool, and set its service URI in a registry."""
        bonding = self.contracts["BondingManager"].functions
        if not bonding.isActiveTranscoder(address).call():
            self.transact(bonding.join(address))
        self.transact(self.contracts[registry].functions.setServiceURIFor(address, uri))

    def give(self, address: str, wei: int) -> None:
        """Send plain ether to an account."""
        sent = self.web3.eth.send_transaction(
            {"from": self.owner, "to": address, "value": Web3.to_wei(wei, "wei")}
        )
        self.web3.eth.wait_for_transaction_receipt(sent)

    def fund(self, sender: str, *, deposit: int, reserve: int) -> None:
        """Add to a sender's deposit and reserve, in wei."""
        fund = self.contracts["TicketBroker"].functions.fundDepositAndReserveFor(sender, deposit, reserve)
        self.transact(fund, value=deposit + reserve)

    def advance(self, l1_block: int, round_number: int, round_block_hash: bytes) -> None:
        """Advance L1 block and round to these, where they are behind."""
        rounds = self.contracts["RoundsManager"].functions
        if l1_block > rounds.blockNum().call():
            self.transact(rounds.advance(l1_block))
        if round_number > rounds.lastInitializedRound().call():
            self.transact(rounds.initializeRound(round_number, round_block_hash))

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.tester.mine_blocks(blocks)

    def _deploy(self, name: str, *arguments: Any) -> Any:
        contract = compiled(name)
        factory = self.web3.eth.contract(abi=contract.abi, bytecode=contract.bytecode)
        receipt = self.transact(factory.constructor(*arguments))
        return self.web3.eth.contract(address=receipt["contractAddress"], abi=contract.abi)
