"""The devnet's chain: the protocol's contracts in an EVM of this process, behind a JSON-RPC port.

Its libraries (web3, eth-tester, py-evm, vyper) are those of the dependency group `chain`.
"""
