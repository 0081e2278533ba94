"""The devnet's chain: the protocol's contracts in an EVM in this process, served by JSON-RPC.

It needs the dependency group `chain`: web3, eth-tester, py-evm, vyper.
"""
