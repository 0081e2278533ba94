# pragma version ^0.4.0
# @notice The L1 block as this chain knows it, and the rounds that are counted in it.

event NewRound:
    round: indexed(uint256)
    blockHash: bytes32


keeper: immutable(address)
blockNum: public(uint256)
lastInitializedRound: public(uint256)
blockHashForRound: public(HashMap[uint256, bytes32])


@deploy
def __init__():
    keeper = msg.sender


@external
def advance(number: uint256):
    # On Arbitrum this number comes from the system; here the chain's process keeps it.
    assert msg.sender == keeper, "only the keeper"
    assert number >= self.blockNum, "blocks do not go back"
    self.blockNum = number


@external
def initializeRound(number: uint256, blockHash: bytes32):
    assert msg.sender == keeper, "only the keeper"
    assert number > self.lastInitializedRound, "already initialized"
    self.lastInitializedRound = number
    self.blockHashForRound[number] = blockHash
    log NewRound(round=number, blockHash=blockHash)
