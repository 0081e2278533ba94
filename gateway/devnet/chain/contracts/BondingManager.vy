# pragma version ^0.4.0
# @notice The active pool of orchestrators (transcoders, as the contracts call them), a linked list.

owner: immutable(address)
pool: DynArray[address, 200]
places: HashMap[address, uint256]  # in the pool, from 1; 0 is not there


@deploy
def __init__():
    owner = msg.sender


@external
def join(account: address):
    assert msg.sender == owner, "only the owner"
    assert self.places[account] == 0, "already in the pool"
    self.pool.append(account)
    self.places[account] = len(self.pool)


@external
def leave(account: address):
    assert msg.sender == owner, "only the owner"
    place: uint256 = self.places[account]
    assert place != 0, "not in the pool"
    last: address = self.pool.pop()
    if last != account:
        self.pool[place - 1] = last
        self.places[last] = place
    self.places[account] = 0


@view
@external
def getTranscoderPoolSize() -> uint256:
    return len(self.pool)


@view
@external
def getFirstTranscoderInPool() -> address:
    return self.pool[0] if len(self.pool) > 0 else empty(address)


@view
@external
def getNextTranscoderInPool(account: address) -> address:
    place: uint256 = self.places[account]
    if place == 0 or place >= len(self.pool):
        return empty(address)
    return self.pool[place]


@view
@external
def isActiveTranscoder(account: address) -> bool:
    return self.places[account] != 0
