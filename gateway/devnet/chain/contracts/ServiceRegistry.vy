# pragma version ^0.4.0
# @notice Where an orchestrator serves, by its own word. The AI registry is another instance of the same.

event ServiceURIUpdate:
    addr: indexed(address)
    serviceURI: String[256]


owner: immutable(address)
uris: HashMap[address, String[256]]


@deploy
def __init__():
    owner = msg.sender


@external
def setServiceURI(uri: String[256]):
    self._set(msg.sender, uri)


@external
def setServiceURIFor(account: address, uri: String[256]):
    # The small network's own: it registers its orchestrators itself.
    assert msg.sender == owner, "only the owner"
    self._set(account, uri)


@internal
def _set(account: address, uri: String[256]):
    self.uris[account] = uri
    log ServiceURIUpdate(addr=account, serviceURI=uri)


@view
@external
def getServiceURI(account: address) -> String[256]:
    return self.uris[account]
