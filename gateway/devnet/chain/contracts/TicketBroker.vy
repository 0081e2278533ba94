# pragma version ^0.4.0
# @notice Senders' funds, and the redemption of winning tickets against them.

interface RoundsManager:
    def lastInitializedRound() -> uint256: view
    def blockHashForRound(number: uint256) -> bytes32: view


struct Ticket:
    recipient: address
    sender: address
    faceValue: uint256
    winProb: uint256
    senderNonce: uint256
    recipientRandHash: bytes32
    auxData: Bytes[64]


struct Sender:
    deposit: uint256
    withdrawRound: uint256


struct ReserveInfo:
    fundsRemaining: uint256
    claimedInCurrentRound: uint256


struct Reserve:
    funds: uint256
    claimedRound: uint256
    claimed: uint256


event DepositFunded:
    sender: indexed(address)
    amount: uint256


event ReserveFunded:
    reserveHolder: indexed(address)
    amount: uint256


event Unlock:
    sender: indexed(address)
    startRound: uint256
    endRound: uint256


event UnlockCancelled:
    sender: indexed(address)


event Withdrawal:
    sender: indexed(address)
    deposit: uint256
    reserve: uint256


event WinningTicketTransfer:
    sender: indexed(address)
    recipient: indexed(address)
    amount: uint256


event WinningTicketRedeemed:
    sender: indexed(address)
    recipient: indexed(address)
    faceValue: uint256
    winProb: uint256
    senderNonce: uint256
    recipientRand: uint256
    auxData: Bytes[64]


ticketValidityPeriod: public(immutable(uint256))
unlockPeriod: public(immutable(uint256))
rounds: immutable(RoundsManager)
senders: HashMap[address, Sender]
reserves: HashMap[address, Reserve]
usedTickets: public(HashMap[bytes32, bool])


@deploy
def __init__(roundsManager: address, validityPeriod: uint256, unlockRounds: uint256):
    rounds = RoundsManager(roundsManager)
    ticketValidityPeriod = validityPeriod
    unlockPeriod = unlockRounds


@payable
@external
def fundDepositAndReserve(depositAmount: uint256, reserveAmount: uint256):
    assert msg.value == depositAmount + reserveAmount, "msg.value does not equal the sum of amounts"
    self._fund(msg.sender, depositAmount, reserveAmount)


@payable
@external
def fundDepositAndReserveFor(account: address, depositAmount: uint256, reserveAmount: uint256):
    assert msg.value == depositAmount + reserveAmount, "msg.value does not equal the sum of amounts"
    self._fund(account, depositAmount, reserveAmount)


@internal
def _fund(account: address, depositAmount: uint256, reserveAmount: uint256):
    # Who funds itself wants to go on; another's money cancels nobody's unlock.
    if account == msg.sender and self.senders[account].withdrawRound != 0:
        self._cancel_unlock(account)
    if depositAmount > 0:
        self.senders[account].deposit += depositAmount
        log DepositFunded(sender=account, amount=depositAmount)
    if reserveAmount > 0:
        self.reserves[account].funds += reserveAmount
        log ReserveFunded(reserveHolder=account, amount=reserveAmount)


@external
def unlock():
    assert self.senders[msg.sender].deposit + self.reserves[msg.sender].funds > 0, "nothing to unlock"
    assert self.senders[msg.sender].withdrawRound == 0, "unlock already initiated"
    start: uint256 = staticcall rounds.lastInitializedRound()
    self.senders[msg.sender].withdrawRound = start + unlockPeriod
    log Unlock(sender=msg.sender, startRound=start, endRound=start + unlockPeriod)


@external
def cancelUnlock():
    assert self.senders[msg.sender].withdrawRound != 0, "no unlock request in progress"
    self._cancel_unlock(msg.sender)


@internal
def _cancel_unlock(account: address):
    self.senders[account].withdrawRound = 0
    log UnlockCancelled(sender=account)


@external
def withdraw():
    sender: Sender = self.senders[msg.sender]
    reserve: uint256 = self.reserves[msg.sender].funds
    assert sender.withdrawRound != 0, "no unlock request in progress"
    assert staticcall rounds.lastInitializedRound() >= sender.withdrawRound, "account is locked"
    self.senders[msg.sender] = empty(Sender)
    self.reserves[msg.sender] = empty(Reserve)
    send(msg.sender, sender.deposit + reserve)
    log Withdrawal(sender=msg.sender, deposit=sender.deposit, reserve=reserve)


@view
@external
def isUnlockInProgress(account: address) -> bool:
    return self.senders[account].withdrawRound > 0


@view
@external
def getSenderInfo(account: address) -> (Sender, ReserveInfo):
    reserve: Reserve = self.reserves[account]
    current: bool = reserve.claimedRound == staticcall rounds.lastInitializedRound()
    return self.senders[account], ReserveInfo(
        fundsRemaining=reserve.funds, claimedInCurrentRound=reserve.claimed if current else 0
    )


@pure
@external
def getTicketHash(ticket: Ticket) -> bytes32:
    return self._hash(ticket)


@pure
@internal
def _hash(ticket: Ticket) -> bytes32:
    return keccak256(
        concat(
            convert(ticket.recipient, bytes20),
            convert(ticket.sender, bytes20),
            convert(ticket.faceValue, bytes32),
            convert(ticket.winProb, bytes32),
            convert(ticket.senderNonce, bytes32),
            ticket.recipientRandHash,
            ticket.auxData,
        )
    )


@external
def redeemWinningTicket(ticket: Ticket, sig: Bytes[65], recipientRand: uint256):
    hash: bytes32 = self._hash(ticket)
    self._check(ticket, hash, sig, recipientRand)
    self.usedTickets[hash] = True

    amount: uint256 = self._take_funds(ticket.sender, ticket.faceValue)
    if amount > 0:
        send(ticket.recipient, amount)
        log WinningTicketTransfer(sender=ticket.sender, recipient=ticket.recipient, amount=amount)
    log WinningTicketRedeemed(
        sender=ticket.sender,
        recipient=ticket.recipient,
        faceValue=ticket.faceValue,
        winProb=ticket.winProb,
        senderNonce=ticket.senderNonce,
        recipientRand=recipientRand,
        auxData=ticket.auxData,
    )


@view
@internal
def _check(ticket: Ticket, hash: bytes32, sig: Bytes[65], recipientRand: uint256):
    assert ticket.recipient != empty(address), "ticket recipient is null address"
    assert ticket.sender != empty(address), "ticket sender is null address"
    assert len(ticket.auxData) == 64, "auxData has no creation round"
    round: uint256 = extract32(ticket.auxData, 0, output_type=uint256)
    blockHash: bytes32 = extract32(ticket.auxData, 32, output_type=bytes32)
    current: uint256 = staticcall rounds.lastInitializedRound()
    assert round + ticketValidityPeriod > current, "ticket is expired"
    assert blockHash != empty(bytes32), "no block hash for the ticket's creation round"
    assert staticcall rounds.blockHashForRound(round) == blockHash, "ticket creationRound block hash is wrong"
    assert keccak256(convert(recipientRand, bytes32)) == ticket.recipientRandHash, "recipientRand is wrong"
    assert not self.usedTickets[hash], "ticket is used"
    assert self._signed_by(hash, sig) == ticket.sender, "invalid signature over ticket hash"
    drawn: uint256 = convert(keccak256(concat(sig, convert(recipientRand, bytes32))), uint256)
    assert drawn < ticket.winProb, "ticket did not win"
    withdrawRound: uint256 = self.senders[ticket.sender].withdrawRound
    assert withdrawRound == 0 or withdrawRound > current, "sender is unlocked"


@pure
@internal
def _signed_by(hash: bytes32, sig: Bytes[65]) -> address:
    assert len(sig) == 65, "a signature has 65 bytes"
    r: bytes32 = extract32(sig, 0)
    s: bytes32 = extract32(sig, 32)
    v: uint256 = convert(slice(sig, 64, 1), uint256)
    return ecrecover(keccak256(concat(b"\x19Ethereum Signed Message:\n32", hash)), v, r, s)


@internal
def _take_funds(account: address, faceValue: uint256) -> uint256:
    deposit: uint256 = self.senders[account].deposit
    reserve: uint256 = self.reserves[account].funds
    assert deposit + reserve > 0, "sender deposit and reserve are zero"
    fromDeposit: uint256 = min(deposit, faceValue)
    fromReserve: uint256 = min(reserve, faceValue - fromDeposit)
    self.senders[account].deposit = deposit - fromDeposit
    if fromReserve > 0:
        self._claim(account, fromReserve)
    return fromDeposit + fromReserve


@internal
def _claim(account: address, amount: uint256):
    current: uint256 = staticcall rounds.lastInitializedRound()
    if self.reserves[account].claimedRound != current:
        self.reserves[account].claimedRound = current
        self.reserves[account].claimed = 0
    self.reserves[account].funds -= amount
    self.reserves[account].claimed += amount
