const words: Readonly<Record<string, string>> = {
  unknown_status: 'none of the ten statuses',
  wrong_setter: 'a status that only the Shop or CRM may set',
  no_status: 'neither a status nor a price in it',
  price_unreadable: 'a price that the Shop DB can not keep exactly',
  not_submitted: 'the Shop has not submitted the order',
  not_approved: 'CRM has not approved the order',
  not_in_shop: 'the Shop DB does not have the order yet',
  repinned: 'its statuses go through CRM now',
  row_held: "somebody holds the order's row in the Shop DB",
}

/** Why a status is not in the Shop, for a person; a code that is new here is shown as it is. */
export function statusReason(reason: string | undefined): string {
  if (reason === undefined) return ''
  if (reason.startsWith('refused: ')) return `the Shop DB refuses it: ${reason.slice(9)}`
  return words[reason] ?? reason
}
