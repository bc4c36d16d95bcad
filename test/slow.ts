/**
 * How many times as long as usual things may take: 1, or KNP_TEST_SLOW where the machine is emulated. For limits on what
 * should happen; never for waiting until something has not happened.
 */
export const slow = Number(process.env.KNP_TEST_SLOW ?? 1)
