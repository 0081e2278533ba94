# pragma version ^0.4.0
# @notice Where the protocol's contracts are: by keccak256 of their name.

owner: immutable(address)
contracts: HashMap[bytes32, address]


@deploy
def __init__():
    owner = msg.sender


@external
def setContract(id: bytes32, contract: address):
    assert msg.sender == owner, "only the owner"
    self.contracts[id] = contract


@view
@external
def getContract(id: bytes32) -> address:
    return self.contracts[id]
